"""Builds whose packages have control data, for bills of materials and vulnerabilities."""
