"""Tests compare numbers to the last digits and count processes, so all but test_gpu.py run on the CPU."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = ""
