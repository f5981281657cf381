"""The way of a request: door (`app`, `http`) -> admission -> pool of workers -> events, all joined by the `desk`.

Every dialect goes this one way. Routes declare a role; an undeclared one keeps the server from starting. `run.serve`
is the server, `ready` makes catalog models loadable, `routes` is what a dialect hands in. `batches` asks, through the
same desk and behind everybody else, what `jobs` keeps on the disk; `tunings` makes, in a child process, what `diary`
keeps; `files` keeps what clients send.
"""
