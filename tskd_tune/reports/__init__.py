"""The reports of a run. Of judge, findings, forms and page, each package imports only the packages named before it."""
