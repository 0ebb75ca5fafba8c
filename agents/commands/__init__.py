"""The commands of ``noma-semcom``, one a module; :mod:`noma_semcom_agents.cli` puts them together."""
