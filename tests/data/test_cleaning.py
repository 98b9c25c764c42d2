from pathlib import Path

import pytest

from rnn_hf.data.cleaning import clean_text
from rnn_hf.data.sources import load_text_dataset
from tests.data.files import write_csv


def test_clean_text_is_off_unless_asked_for(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["x"], [r"it #39;s\here"])
    assert load_text_dataset(test_file=path)["test"]["text"][:] == [r"it #39;s\here"]
    assert load_text_dataset(test_file=path, clean_text=True)["test"]["text"][:] == ["it's here"]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("fans #39; joy", "fans' joy"),
        ("in the #39;90s", "in the '90s"),
        ("he said  quot;no quot; (AP)", 'he said "no " (AP)'),
        ('&lt;A HREF="http://a.b/c;1"&gt;IBM&lt;/A&gt; fell', "IBM fell"),
        ("didn rsquo;t &amp; can #8217;t", "didn't & can't"),
        ("Johnson  amp; Johnson", "Johnson & Johnson"),
        ("3 < 4; so 5 > 2", "3 < 4; so 5 > 2"),
        ("Sign up; the image; total", "Sign up; the image; total"),
        ("", ""),
    ],
)
def test_clean_text_fixes_what_is_broken_and_nothing_else(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned
