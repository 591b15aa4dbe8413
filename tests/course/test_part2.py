from tests.course.suite import Change, PartSuite


class TestPart2(PartSuite):
    number = 2
    mistakes = (
        Change(
            "data.py",
            "[FEATURES], index=False",
            "[FEATURES], index=True",
            "a_hash_split_does_not_leak",
        ),
        Change(
            "data.py",
            "hashes % 1000 < 1000 * fraction",
            "hashes.rank() < len(rows) * fraction",
            "a_row_keeps_its_side_when_the_table_grows",
        ),
        Change(
            "train.py",
            'load(folder / "model.skops")',
            'load(folder / "model.skops", trusted=["shutil.rmtree"])',
            "a_file_with_foreign_code_is_not_loaded",
        ),
    )
