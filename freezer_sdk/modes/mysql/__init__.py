"""Mode ``mysql``: databases of MariaDB and MySQL servers."""
