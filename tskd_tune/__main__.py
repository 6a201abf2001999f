"""``python -m tskd_tune`` runs ``tskd-tune``."""

from tskd_tune.cli import main

if __name__ == "__main__":
    main()
