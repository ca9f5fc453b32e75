"""``python -m toxmid`` is the command ``toxmid``."""

from toxmid.cli import main

main()
