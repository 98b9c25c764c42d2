"""Write a page that shows what recurrent networks do with a text: `rnn-hf lesson-page` from a clone.

    python scripts/lesson_page.py --train
    python scripts/lesson_page.py runs/rnn runs/lstm --texts "The striker scored twice." --output_file lesson.html

`--help` lists the flags.
"""

from rnn_hf.commands.lesson_page import main

if __name__ == "__main__":
    main()
