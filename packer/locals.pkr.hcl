locals {
  lock = jsondecode(file(var.lock))
  vars = jsondecode(file(var.vars))
  name = "${local.vars.golden_image}-${local.vars.golden_build_id}"

  # What `golden bake` adds: a key and a group with a date of expiry, which its policy and `golden sweep` go by (Packer
  # 1.6.6 tags neither; newer ones give theirs the run_tags), and the key that encrypts the volume. Packer alone takes its
  # own.
  ec2 = lookup(local.vars, "golden_ec2", { key = "", private_key = "", groups = [], tags = {}, kms_key = "" })

  # What a company demands on machines.
  run_tags = lookup(local.ec2, "run_tags", {})

  # On everything that the EC2 builder makes: it is gone by the end of the bake, or found by its date of expiry.
  tags = merge(local.ec2.tags, {
    Name                    = local.name
    "goldenami:image"       = local.vars.golden_image
    "goldenami:build-id"    = local.vars.golden_build_id
    "goldenami:lock-sha256" = local.vars.golden_lock_sha256
    "goldenami:git-commit"  = local.vars.golden_git_commit
  })
}
