"""Jobs that the processes of one launch do in turn, because importing the libraries takes longer than each of them.

    torchrun --nproc_per_node 2 -m tests.jobs_in_turn JOBS.json STATUSES.json

The one file lists for each job a script, its arguments, and the port at which the processes meet for it; the other
gets the exit statuses.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState

if __name__ == "__main__":
    jobs, statuses = json.loads(Path(sys.argv[1]).read_text()), []
    for number, (script, argv, port) in enumerate(jobs):
        if number:  # the launcher has arranged the first meeting only
            os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        paths, sys.argv = sys.argv, [script, *argv]
        try:
            runpy.run_path(script, run_name="__main__")
            statuses.append(0)
        except SystemExit as stop:
            statuses.append(stop.code)
        sys.argv = paths
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    if os.environ["RANK"] == "0":
        Path(sys.argv[2]).write_text(json.dumps(statuses))
