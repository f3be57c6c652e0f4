"""The native core. The .pyi files promise it to Python, the .pxd files to C; the code is in src_ext/."""
