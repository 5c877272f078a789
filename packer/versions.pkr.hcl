# `packer init packer` fetches the plugins. Packer 1.6, the newest that distributions carry, has them built in and
# rejects the block: scripts/goldenami/local/machine/packer.py gives it these templates without what it does not know.
packer {
  required_version = ">= 1.6.6"

  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.3"
    }
    ansible = {
      source  = "github.com/hashicorp/ansible"
      version = "~> 1.1"
    }
  }
}
