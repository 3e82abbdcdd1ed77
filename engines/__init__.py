"""The real database engines as child processes, without a container.

DynamoDB Local and one OpenSearch node; their jars come from Maven Central by pom.xml, once, into .engines/.
For tests and development: `python -m engines --help`.
"""
