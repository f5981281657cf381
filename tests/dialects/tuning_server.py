"""Run by tests: a server with a fake engine whose jobs a fake trainer does, in a process that can be killed.

python -m tests.dialects.tuning_server HOME, which prints its address.
"""

import sys
import time
from pathlib import Path

from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.store import Store
from tests.dialects.tuning_child import COMMAND
from tests.serving.support import FakeEngine, live


def main(home: Path) -> None:
    settings = Settings(home=home)
    with Store.open(settings.store) as store:
        app = create_app(settings, store, engine=FakeEngine())
        app.state.desk.tunings.command = COMMAND
        with live(app) as url:
            print(url, flush=True)
            time.sleep(600)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
