# One build, two sources: `null.local` is the container of the local builder, `amazon-ebs.ec2` an instance.

source "null" "local" {
  communicator         = "ssh"
  ssh_host             = var.ssh_host
  ssh_port             = 22
  ssh_username         = "root"
  ssh_private_key_file = var.ssh_key
  ssh_timeout          = "60s"
}

source "amazon-ebs" "ec2" {
  region              = var.region
  custom_endpoint_ec2 = var.ec2_endpoint
  instance_type       = var.instance_type
  ami_name            = local.name
  ami_description     = local.lock.description
  ssh_username        = local.base_image.user
  ena_support         = true
  ebs_optimized       = true
  tags                = local.tags
  snapshot_tags       = local.tags
  run_tags            = local.tags
  run_volume_tags     = local.tags

  source_ami_filter {
    filters = {
      name                = local.base_image.name
      architecture        = "x86_64"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = [local.base_image.owner]
    most_recent = true
  }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = local.lock.disk_size_gib
    iops                  = 3000
    throughput            = 250
    delete_on_termination = true
  }
}

build {
  sources = ["source.null.local", "source.amazon-ebs.ec2"]

  # The local container has the repository mounted; an instance gets a copy of it.
  provisioner "file" {
    only        = ["amazon-ebs.ec2"]
    source      = "${var.repo}/"
    destination = "/tmp/golden-repo"
  }

  provisioner "shell" {
    only            = ["amazon-ebs.ec2"]
    execute_command = "sudo sh -eux '{{ .Path }}'"
    inline = [
      "mkdir -p /run/golden && mv /tmp/golden-repo /run/golden/repo",
      "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*",
      "printf 'Types: deb\\nURIs: file:/run/golden/repo\\nSuites: ./\\nTrusted: yes\\n' > /etc/apt/sources.list.d/golden-bake.sources",
      "apt-get update",
    ]
  }

  provisioner "ansible" {
    playbook_file   = "ansible/bake.yml"
    user            = build.User
    use_proxy       = false
    extra_arguments = ["--extra-vars", "@${var.vars}"]
    # The throw-away container has no identity worth checking; an instance's key is new with every build.
    ansible_env_vars = ["ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_CONFIG=ansible.cfg"]
  }
}
