"""The `account` command's stages: create what an AWS account needs, and remove it again."""
