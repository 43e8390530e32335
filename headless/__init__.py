from ..core._moved import keep_paths

keep_paths(__name__, {"server": "remote.server", "workflow": "workflows.workflow"})
