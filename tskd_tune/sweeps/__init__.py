"""Search spaces, searchers and schedulers, and the code that runs and resumes sweeps.

Each folder is a room, which imports only from rooms below its own; the files beside the rooms run a sweep from start to
end. ``docs/architecture.md`` shows the rooms in their order.
"""
