"""The `cluster` command's stage: the machines of one image as a CloudFormation stack, made and
taken away again."""
