"""The `lock` stage: a definition resolved to exact files."""
