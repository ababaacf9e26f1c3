"""Data-driven tests of components and boards, in the fbp-spec format, through the FBP runtime protocol."""
