"""The account's other services: prices and bills, keys, parameters, commands, stacks."""
