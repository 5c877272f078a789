"""The stages `retire` and `sweep`, and the command `status`: what an account has, what nobody uses
any more, and its removal in steps."""
