"""What a run promises by its noise, against which the other parts are held."""

from cachefl_jax.privacy.audit.part import Context, Section

NOTHING = "This run has no differential privacy: it promises nothing, whatever an attack below comes to."


def promise(context: Context) -> tuple[dict, Section]:
    """Epsilon and delta of all rounds; null without privacy."""
    budget, heading = context.budget, "What is promised"
    if budget is None:
        return {"epsilon": None}, Section(heading, [NOTHING])
    epsilon, delta = budget.after(budget.rounds), budget.exposure.delta
    mechanism = context.config.privacy.mechanism
    told = f"By its accountant the run spends epsilon {epsilon:.3g} at delta {delta:g} in {budget.rounds} rounds "
    told += f"(privacy.mechanism={mechanism}, noise multiplier {budget.noise:.4g}): a bound that no attack may pass."
    record = {"mechanism": mechanism, "epsilon": epsilon, "delta": delta, "noise_multiplier": budget.noise}
    return record, Section(heading, [told])
