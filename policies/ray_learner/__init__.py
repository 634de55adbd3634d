"""Learning by several processes: actors of Ray that train one model together.

`worker.py` is what runs in such a process, `learner.py` the learner of the loop that hands trainings to them.
"""
