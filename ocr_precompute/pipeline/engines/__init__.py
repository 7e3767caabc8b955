"""Where tasks run: in this process, in threads or processes of this machine, on a cluster."""
