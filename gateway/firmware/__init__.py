"""Our own firmware: what is generated for a build, the targets, the compiler, boards that run as child processes."""
