//! What a plugin may do: the manifest and the guardrails, compiled to Cedar, and the decision.
