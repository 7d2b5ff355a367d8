"""Attacks on the scripts with damaged and hostile input, judged by what docs/reliability.md promises."""
