# What bash, and zsh by its own name of it, calls for a program that is not there.
command_not_found_handle() {
    echo "$1: command not found: its package comes by the image's definition (\`customize_packages\`) or in a container;" \
        "Python's by \`ml env NAME && pip install PACKAGE\`" >&2
    return 127
}
command_not_found_handler() { command_not_found_handle "$@"; }
