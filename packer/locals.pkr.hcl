locals {
  lock = jsondecode(file(var.lock))
  vars = jsondecode(file(var.vars))
  name = "${local.vars.golden_image}-${local.vars.golden_build_id}"

  # The publishers' own images, by the account ids that they document.
  base_image = jsondecode(file("base_images.json"))[local.lock.base.release]

  # How to reach the instance, tags that say whose it is and when it may be swept, its volume's size and the key that
  # encrypts it.
  ec2 = lookup(local.vars, "golden_ec2", {
    key = "", private_key = "", groups = [], tags = {}, kms_key = "", volume_gib = local.lock.disk_size_gib
  })

  # On everything that the EC2 builder makes: it is gone by the end of the bake, or found by its date of expiry.
  tags = merge(local.ec2.tags, {
    Name                    = local.name
    "goldenami:image"       = local.vars.golden_image
    "goldenami:build-id"    = local.vars.golden_build_id
    "goldenami:lock-sha256" = local.vars.golden_lock_sha256
    "goldenami:git-commit"  = local.vars.golden_git_commit
  })
}
