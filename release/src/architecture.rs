//! The architectures that images are for, and whether a program is one that runs in an image with nothing else in it.

use anyhow::{Context, bail};
use object::elf::{EM_AARCH64, EM_X86_64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

/// By the name that Rust has for it, as in `target/dist-out/images/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// As Rust calls it.
    #[must_use]
    pub fn rust(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As images, Go and Debian call it.
    #[must_use]
    pub fn oci(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Refuses a program that is for another machine, or that needs a loader and libraries, which an image from scratch
    /// does not have.
    ///
    /// # Errors
    /// Says which of it is the case.
    pub fn check(self, program: &[u8]) -> anyhow::Result<()> {
        type Header = object::elf::FileHeader64<object::Endianness>;
        let header = Header::parse(program).context("it is not a 64-bit ELF program")?;
        let endian = header.endian().context("it is not a 64-bit ELF program")?;
        let machine = match self {
            Self::X86_64 => EM_X86_64,
            Self::Aarch64 => EM_AARCH64,
        };
        if header.e_machine(endian) != machine {
            bail!("it is not for {}", self.rust());
        }
        let segments =
            header.program_headers(endian, program).context("its program headers cannot be read")?;
        if segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP) {
            bail!("it is not static: it needs a loader, which the image does not have");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::static_program;

    #[test]
    fn only_a_static_program_of_the_same_architecture_is_taken() {
        for architecture in Architecture::ALL {
            architecture.check(&static_program(architecture, "")).unwrap();
        }
        let other = Architecture::X86_64.check(&static_program(Architecture::Aarch64, "")).unwrap_err();
        assert_eq!(other.to_string(), "it is not for x86_64");
        for text in ["", "#!/bin/sh\n", "\x7fELF"] {
            let error = Architecture::X86_64.check(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "it is not a 64-bit ELF program");
        }
    }

    #[test]
    fn this_test_itself_is_refused_where_it_needs_a_loader() {
        let Some(own) = Architecture::ALL.into_iter().find(|it| it.rust() == std::env::consts::ARCH) else {
            return;
        };
        if cfg!(target_feature = "crt-static") {
            return;
        }
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let error = own.check(&program).unwrap_err().to_string();
        assert!(error.starts_with("it is not static"), "{error}");
    }
}
