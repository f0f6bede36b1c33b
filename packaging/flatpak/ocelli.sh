#!/bin/sh
# What starts in the Flatpak. XDG_CACHE_HOME there is a folder of the program's own, and would be taken for the place of the hub's cache: the
# models belong into the one that all tools of the hub share, which the manifest opens.
HF_HOME=${HF_HOME:-$HOME/.cache/huggingface}
export HF_HOME
exec /app/libexec/ocelli "$@"
