"""The `cluster` command's stage: run the machines of one image as a CloudFormation stack, and
remove them again."""
