"""What roles and the recipes of frameworks say of themselves."""
