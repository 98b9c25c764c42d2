"""Write a web page that runs a classifier in the browser: `rnn-hf demo-page` from a clone.

    python scripts/demo_page.py runs/mine --output_dir page [--dtype fp32] [--examples TEXT ...]

`--help` lists the flags.
"""

from rnn_hf.commands.demo_page import main

if __name__ == "__main__":
    main()
