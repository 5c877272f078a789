# Facts about an image are in its lock. Here is only where that lock is, and what belongs to the account.

variable "lock" {
  type        = string
  description = "Path of packer/locks/<image>.lock.json."
}

variable "vars" {
  type        = string
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
  default     = "/dev/null"
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
