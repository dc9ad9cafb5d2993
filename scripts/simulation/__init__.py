"""Spines with no patient behind them: real vertebra shapes, posed, broken, painted as CT and written as VerSe does."""
