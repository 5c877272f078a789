"""An archive dressed as Ubuntu 24.04's, made of Debian's packages."""
