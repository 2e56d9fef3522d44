"""One training loop: schedules, optimisers, exact resume, the best epoch, the attack inside a step."""
