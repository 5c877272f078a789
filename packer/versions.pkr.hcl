# The oldest Packer that these templates are tested with is 1.6.6, the last of its generation that
# distributions carry. It rejects `required_plugins`; packer/plugins/ has that block for newer ones.
packer {
  required_version = ">= 1.6.6"
}
