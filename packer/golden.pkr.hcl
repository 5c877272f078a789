# One build, two sources: `null.local` is the container of the local builder, `amazon-ebs.ec2` an instance.

source "null" "local" {
  communicator         = "ssh"
  ssh_host             = var.ssh_host
  ssh_port             = 22
  ssh_username         = "root"
  ssh_private_key_file = var.ssh_key
  ssh_agent_auth       = var.ssh_key == "" # for `packer validate packer`: a bake has a key of its own
  ssh_timeout          = "60s"
}

source "amazon-ebs" "ec2" {
  region                = var.region
  custom_endpoint_ec2   = var.ec2_endpoint
  instance_type         = var.instance_type
  ami_name              = "${local.name}-builder" # `golden bake` registers the build's own from its snapshot
  ami_description       = local.lock.description
  force_deregister      = true # of that name is only what a killed bake left
  force_delete_snapshot = true
  ssh_username          = local.vars.golden_base_image.user
  disable_stop_instance = true # it goes down by itself, see the last provisioner
  ena_support           = true
  ebs_optimized         = true
  tags                  = merge(local.tags, { "goldenami:base-ami" = "{{ .SourceAMI }}" })
  snapshot_tags         = local.tags
  run_tags              = merge(local.run_tags, local.tags)
  run_volume_tags       = merge(local.run_tags, local.tags)

  # Empty: Packer makes a temporary key and group. `golden bake` brings tagged ones: see locals.pkr.hcl.
  ssh_keypair_name        = local.ec2.key
  ssh_private_key_file    = local.ec2.private_key
  security_group_ids      = local.ec2.groups
  subnet_id               = lookup(local.ec2, "subnet", "")
  temporary_key_pair_type = "ed25519"

  source_ami_filter {
    filters = {
      name                = local.vars.golden_base_image.name
      architecture        = "x86_64"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = [local.vars.golden_base_image.owner]
    most_recent = true
  }

  metadata_options { # Packer 1.6 does not know it
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  launch_block_device_mappings {
    device_name           = local.vars.golden_base_image.device
    volume_type           = "gp3"
    volume_size           = max(local.lock.disk_size_gib, local.vars.golden_base_image.gib)
    iops                  = 3000
    throughput            = 250
    encrypted             = local.ec2.kms_key != "" ? true : null
    kms_key_id            = local.ec2.kms_key
    delete_on_termination = true
  }
}

build {
  sources = ["source.null.local", "source.amazon-ebs.ec2"]

  # The local container has the repository mounted; an instance gets a copy of it, on its disk: /run is memory.
  provisioner "shell" {
    only   = ["amazon-ebs.ec2"]
    inline = ["mkdir /var/tmp/golden-repo"]
  }

  provisioner "file" {
    only        = ["amazon-ebs.ec2"]
    source      = "${var.repo}/"
    destination = "/var/tmp/golden-repo"
  }

  provisioner "shell" {
    only            = ["amazon-ebs.ec2"]
    execute_command = "sudo sh -eu '{{ .Path }}'"
    script          = "packer/instance.sh"
  }

  provisioner "ansible" {
    playbook_file   = "ansible/bake.yml"
    user            = build.User
    use_proxy       = false
    extra_arguments = ["--extra-vars", "@${var.vars}"]
    # The throw-away container has no identity worth checking; an instance's key is new with every build.
    ansible_env_vars = ["ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_CONFIG=ansible.cfg"]
  }

  # The seal took every way in and up: the connection from before is left, and what packer/instance.sh started.
  provisioner "shell" {
    only          = ["amazon-ebs.ec2"]
    remote_folder = "/dev/shm" # memory: nothing is written into what is sealed
    skip_clean    = true
    inline        = ["touch /dev/shm/golden-sealed"]
  }
}
