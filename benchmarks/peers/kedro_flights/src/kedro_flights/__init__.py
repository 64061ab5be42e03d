"""The flights example as a Kedro project, in the shape of Kedro's spaceflights tutorial, with
kedro-mlflow's data sets for the model and its error."""
