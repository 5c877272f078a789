# Facts about an image are in its lock. Here is only where that lock is, and what belongs to the account. With the
# defaults `packer validate` has all that it needs, and a build nothing: `golden bake` says what it is about.

variable "lock" {
  type        = string
  default     = "locks/debian-13-ml-cpu.lock.json"
  description = "Path of packer/locks/<image>.lock.json."
}

variable "vars" {
  type        = string
  default     = "sample_vars.json"
  description = "Path of the role variables as JSON, written by `golden bake` from the lock."
}

variable "repo" {
  type        = string
  default     = "."
  description = "Folder of the lock's packages as an apt repository; uploaded to the EC2 builder."
}

variable "ssh_host" {
  type        = string
  default     = "127.0.0.1"
  description = "Address of the local build container."
}

variable "ssh_key" {
  type        = string
  default     = ""
  description = "Private key for the local build container."
}

variable "region" {
  type        = string
  default     = "us-east-1"
  description = "Region in which the EC2 builder runs."
}

variable "instance_type" {
  type        = string
  default     = "m7i.xlarge"
  description = "Type of the EC2 builder; no GPU is needed to build."
}

variable "ec2_endpoint" {
  type        = string
  default     = ""
  description = "Endpoint of an EC2 emulator; empty for AWS."
}
