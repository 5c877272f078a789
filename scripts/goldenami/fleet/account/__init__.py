"""The `account` command's stages: what an AWS account needs, made and taken away again."""
