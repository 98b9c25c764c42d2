# its imports exist only beside the unpacked tests of transformers, where test_transformers_common.py copies it
collect_ignore = ["rnn_common_tests.py"]
