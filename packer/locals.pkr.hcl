locals {
  lock = jsondecode(file(var.lock))
  vars = jsondecode(file(var.vars))
  name = "${local.vars.golden_image}-${local.vars.golden_build_id}"

  # The publishers' own images, by the account ids that they document.
  base_images = {
    bookworm = { owner = "136693071363", user = "admin", name = "debian-12-amd64-*" }
    trixie   = { owner = "136693071363", user = "admin", name = "debian-13-amd64-*" }
    noble    = { owner = "099720109477", user = "ubuntu", name = "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-*" }
  }
  base_image = local.base_images[local.lock.base.release]

  tags = {
    Name                    = local.name
    "goldenami:image"       = local.vars.golden_image
    "goldenami:build-id"    = local.vars.golden_build_id
    "goldenami:lock-sha256" = local.vars.golden_lock_sha256
  }
}
