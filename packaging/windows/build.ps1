# Builds the program and its installer, to target/packages. To be run on Windows, with Rust, Visual Studio's build tools, and the WiX
# Toolset 3.14 (its folder in the variable WIX, as its own installer sets it):
#
#   powershell -ExecutionPolicy Bypass -File packaging/windows/build.ps1
#
# With SIGNTOOL_ARGUMENTS set (for example "/a /fd SHA256 /tr URL /td SHA256") program and installer are signed with signtool.
$ErrorActionPreference = "Stop"
Set-Location (Join-Path $PSScriptRoot "../..")

function Invoke-Checked([string]$Program, [string[]]$Arguments) {
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) { throw "$Program ended with $LASTEXITCODE" }
}
function Invoke-Sign([string]$File) {
    if ($env:SIGNTOOL_ARGUMENTS) {
        Invoke-Checked "signtool" (@("sign") + $env:SIGNTOOL_ARGUMENTS.Split(" ") + @($File))
    }
}

$version = (Select-String -Path Cargo.toml -Pattern '^version = "(.*)"$' | Select-Object -First 1).Matches.Groups[1].Value
$cargoHome = if ($env:CARGO_HOME) { $env:CARGO_HOME } else { Join-Path $env:USERPROFILE ".cargo" }
$sysroot = (& rustc --print sysroot)
# No path of this machine in the program; nothing of the C runtime to be installed beside it.
$flags = @(
    "--remap-path-prefix=$cargoHome=/cargo", "--remap-path-prefix=$sysroot=/rust", "--remap-path-prefix=$(Get-Location)=/ocelli",
    "-Ctarget-feature=+crt-static", "-Clink-arg=/Brepro"
)
$env:CARGO_ENCODED_RUSTFLAGS = $flags -join [char]0x1f
$env:CARGO_INCREMENTAL = "0"
Invoke-Checked "cargo" @("build", "--release", "--locked", "--bin", "ocelli", "--target-dir", "target/release-packages")
$program = "target/release-packages/release/ocelli.exe"
Invoke-Sign $program
Invoke-Checked $program @("--version")

$out = "target/packages"
$work = "target/packaging/windows"
New-Item -ItemType Directory -Force -Path $out, $work | Out-Null
$licences = Join-Path $work "licences.txt"
# From the source: what a program prints, PowerShell 5.1 takes for text of the console's code page, not for UTF-8. The mark in front
# says to every editor what it is. (.NET's own folder is not PowerShell's: whole paths.)
$packed = [IO.File]::OpenRead("$(Get-Location)/assets/licences.txt.gz")
$unpacked = New-Object IO.Compression.GZipStream($packed, [IO.Compression.CompressionMode]::Decompress)
$text = [IO.File]::Create("$(Get-Location)/$licences")
$text.Write([Text.Encoding]::UTF8.GetPreamble(), 0, 3)
$unpacked.CopyTo($text)
$text.Dispose()
$unpacked.Dispose()

$installer = "$out/Ocelli-$version-x86_64.msi"
$bin = if ($env:WIX) { Join-Path $env:WIX "bin" } else { throw "WIX is not set: the WiX Toolset 3 is missing" }
Invoke-Checked (Join-Path $bin "candle.exe") @("-nologo", "-arch", "x64", "-dVersion=$version", "-dProgram=$program", "-dLicences=$licences", "-out", "$work/ocelli.wixobj", "packaging/windows/ocelli.wxs")
Invoke-Checked (Join-Path $bin "light.exe") @("-nologo", "-spdb", "-out", $installer, "$work/ocelli.wixobj")
Invoke-Sign $installer

$hash = (Get-FileHash -Algorithm SHA256 $installer).Hash.ToLower()
[IO.File]::WriteAllText("$(Get-Location)/$out/SHA256SUMS", "$hash  Ocelli-$version-x86_64.msi`n")
Get-ChildItem $out
