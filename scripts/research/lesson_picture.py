"""Take the picture of the lesson page for the README. Needs Chromium.

    rnn-hf lesson-page runs/lesson-rnn runs/lesson-lstm-packed runs/gru --texts "$TEXT" --output_file lesson.html
    python -m scripts.research.lesson_picture lesson.html

TEXT is a sentence of our own: rows of a dataset do not belong into the repository.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from rnn_hf.commands.entry import exit_statuses, user_errors
from rnn_hf.files import atomic_file
from scripts.research.render_model_cards import CARDS

PICTURE = CARDS / "figures" / "lesson-page.png"
# Pixels: the first view of three models
WIDTH, HEIGHT = 1184, 725


@exit_statuses("lesson_picture")
def main() -> None:
    """Write the picture."""
    with user_errors():
        if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
            raise ValueError("Pass one HTML file, which `rnn-hf lesson-page` has written.")
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            raise ValueError("Needs Chromium. Install it.")
        with atomic_file(PICTURE) as beside:
            # the browser chooses the format by the ending
            picture = beside.with_name("lesson-page.new.png")
            flags = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
            address = Path(sys.argv[1]).resolve().as_uri()
            subprocess.run([browser, *flags, f"--screenshot={picture}", address], check=True, capture_output=True)
            picture.replace(beside)
    print(f"Written: {PICTURE}")


if __name__ == "__main__":
    main()
