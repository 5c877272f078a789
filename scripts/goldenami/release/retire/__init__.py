"""How images leave: what nobody uses is found, asked for, and taken a step further."""
