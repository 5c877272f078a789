# For Packer >= 1.7 only: `packer init packer/plugins` (run by `make setup`). 1.6.6 has these built in.
packer {
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
