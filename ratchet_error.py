"""The base class of all errors of the project, and their tree.

A message is one line that names the key, file or row and says how to mend it. `loop/commands/exits.py` prints it and
ends the program with the exit code in brackets, or 1.

    RatchetError
    loop      InputError            a key, file or row is wrong (2)
              LoopError             the loop cannot continue
              Stopped               the user wants to stop; everything so far is committed
              FilterError           a line of `questions.filter` is wrong: becomes an InputError
    store     StoreError            the store cannot be opened, or lacks what was asked for
              ├── NoRunError        the directory holds no run (2)
              └── StoreDamagedError bytes of the store were altered
              RunLocked             another process works on the run
    policies  PolicyError           a model, a swap, an engine or a training fails
              ├── SettingError      a setting cannot work with this model or machine (2)
              ├── RequestRefused    the sampler does not take a request: its question becomes unusable
              ├── ProbeFailed       the sampler does not serve the weights
              ├── TrainingStopped   the training was asked to stop
              ├── ProcessLost       a process of the learner died
              ├── TrainingDiverged  loss or weights are not numbers: the round is rejected
              ├── NoEngines         no engine of several is left
              ├── StaleEngine       an engine holds other weights than the request names
              └── TeacherError      the teacher cannot be asked with this configuration
                  └── TeacherOutage the endpoint does not answer now
    judges    JudgeError            no verdict: the outcome is `judge_error`
              JudgeSpecError        a judge's name or options are wrong

`TransientError`, `MalformedCompletion` and `LimitUsedUp` never leave `policies/`, and a class whose name begins with an
underscore never leaves its module; they are no RatchetError.
"""


class RatchetError(Exception):
    """An error that the project raises on purpose; its message is for the user."""
