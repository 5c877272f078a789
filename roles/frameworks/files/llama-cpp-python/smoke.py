"""Load the library and have GGML say what it was compiled for."""

import llama_cpp

llama_cpp.llama_backend_init()
text = llama_cpp.llama_print_system_info().decode()
assert "CPU" in text, text
print(f"llama.cpp: {text.strip()}")
