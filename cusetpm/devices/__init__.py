"""Front ends: the files and sockets through which tools reach a vTPM."""
